"""Folders laid out as data sets are, of small files, and what they are taken to be."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from dicoms import ct, write_series, write_slice
from PIL import Image

from msgan.data.scan import Proposal
from msgan.data.scan.notes import notes
from msgan.data.volume import write_volume

SHAPE = (5, 4, 3)


def volume(path: Path, shape: tuple[int, ...] = SHAPE, mm: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(image, np.diag([mm, 1, 1, 1])), path)
    return path


def meta(path: Path) -> Path:
    from msgan.data.grid import Grid

    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    grid = Grid.from_spacing(SHAPE, (1, 1, 1))
    write_volume(path, grid, lambda box: image[box.slices], dtype=np.dtype("int16"))
    return path


def rows(proposal: Proposal) -> set[tuple[str, str]]:
    """Subject, and modality or role, of everything found."""
    return {(f.subject, f.modality if f.role == "image" else f.role) for f in proposal.found}


def reasons(proposal: Proposal) -> dict[str, str]:
    return {o.path: o.reason for o in proposal.omitted}


def every(*subjects: str, of: str) -> set[tuple[str, str]]:
    return {(subject, kind) for subject in subjects for kind in of.split()}


# --- layouts -----------------------------------------------------------------------------------


def bids(root: Path) -> set[tuple[str, str]]:
    for who in ("01", "02"):
        for kind in ("T1w", "T2w", "FLAIR", "dseg"):
            volume(root / f"sub-{who}" / "anat" / f"sub-{who}_{kind}.nii.gz")
    volume(root / "sub-03" / "ses-1" / "anat" / "sub-03_ses-1_acq-x_run-2_T1w.nii.gz")
    volume(root / "sub-03" / "ses-1" / "anat" / "sub-03_ses-1_ce-gadolinium_T1w.nii.gz")
    volume(root / "sub-03" / "ses-1" / "anat" / "sub-03_ses-1_desc-brain_mask.nii.gz")
    found = every("sub-01", "sub-02", of="t1 t2 flair labels")
    return found | every("sub-03_ses-1", of="t1 t1c mask")


def brats2015(root: Path) -> set[tuple[str, str]]:
    names = ("brats_2013_pat0001_1", "brats_tcia_pat101_1")
    for k, name in enumerate(names):
        for j, kind in enumerate(("O.MR_T1", "O.MR_T1c", "O.MR_T2", "O.MR_Flair", "O.OT")):
            stem = f"VSD.Brain{'_3more' * (kind == 'O.OT')}.XX.{kind}.{54512 + 6 * k + j}"
            meta(root / "HGG" / name / stem / f"{stem}.mha")
    return every(*names, of="t1 t1c t2 flair labels")


def brats2021(root: Path) -> set[tuple[str, str]]:
    names = ("BraTS2021_00000", "BraTS2021_00012")
    for name in names:
        for kind in ("t1", "t1ce", "t2", "flair", "seg"):
            volume(root / name / f"{name}_{kind}.nii.gz")
    return every(*names, of="t1 t1c t2 flair labels")


def brats2023(root: Path) -> set[tuple[str, str]]:
    names = ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101", "BraTS-GLI-00006-100")
    for name in names:
        for kind in ("t1n", "t1c", "t2w", "t2f", "seg"):
            volume(root / name / f"{name}-{kind}.nii.gz")
    return every(*names, of="t1 t1c t2 flair labels")


def lpba40(root: Path) -> set[tuple[str, str]]:
    for name in ("S01", "S02"):
        folder = root / "delineation_space" / name
        volume(folder / f"{name}.delineation.skullstripped.nii.gz")
        volume(folder / f"{name}.delineation.structure.label.nii.gz")
    return every("S01", "S02", of="t1")


def ixi(root: Path) -> set[tuple[str, str]]:
    names = ("IXI002-Guys-0828", "IXI012-HH-1211")
    for name in names:
        for kind, mm in (("T1", 2.0), ("T2", 1.0), ("PD", 1.0)):
            volume(root / f"IXI-{kind}" / f"{name}-{kind}.nii.gz", mm=mm)
    return every(*names, of="t1 t2 pd")


def open_ms(root: Path) -> set[tuple[str, str]]:
    for who in ("patient19", "patient26"):
        for kind in ("T1", "T2", "FLAIR"):
            volume(root / f"mni_{who}__{kind}_brain_N4_regtoMNI.nii.gz")
        volume(root / f"mni_{who}__GOLD_STANDARD_regtoMNI.nii.gz")
    return every("patient19", "patient26", of="t1 t2 flair labels")


def open_ms_clone(root: Path) -> set[tuple[str, str]]:
    for who in ("patient1", "patient2"):
        folder = root / "cross_sectional" / "MNI" / who
        for kind in ("T1", "T2"):
            volume(folder / f"{kind}_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz")
        volume(folder / "consensus_gt.nii.gz")
        volume(folder / "brainmask.nii.gz")
    return every("patient1", "patient2", of="t1 t2 labels mask")


def a_folder_a_subject(root: Path) -> set[tuple[str, str]]:
    for who in ("anna", "bert"):
        volume(root / who / "t1_mprage.nii.gz")
        volume(root / who / "t2.nii.gz")
        volume(root / who / "scan_lesion_mask.nii.gz")
    return every("anna", "bert", of="t1 t2 labels")


def a_folder_a_modality(root: Path) -> set[tuple[str, str]]:
    for kind in ("T1", "FLAIR", "labels"):
        for who in ("case01", "case02"):
            volume(root / kind / f"{who}.nii.gz")
    return every("case01", "case02", of="t1 flair labels")


def kernels(root: Path) -> set[tuple[str, str]]:
    for seed, who in enumerate(("10005Q", "10061S")):
        for k, kernel in enumerate(("B20f", "B80f")):
            tags = {"PatientID": who, "ConvolutionKernel": kernel}
            uid = f"1.2.{seed}.{k}"
            write_series(root / who / kernel, ct(seed, kernel), SeriesInstanceUID=uid, **tags)
    return every("10005Q", "10061S", of="ct_b20f ct_b80f")


def doses(root: Path) -> set[tuple[str, str]]:
    for k, dose in enumerate(("Low", "Full")):
        about = {"SeriesInstanceUID": f"1.{k}", "SeriesDescription": f"{dose} Dose Images"}
        write_series(root / dose, ct(k), PatientID="C002", ConvolutionKernel="B50f", **about)
    return every("C002", of="ct_b50f_low_dose ct_b50f_full_dose")


def radiographs(root: Path) -> set[tuple[str, str]]:
    names = ("00000001_000", "00000001_001", "00000002_000")
    root.mkdir()
    for name in names:
        Image.fromarray(np.eye(8, dtype=np.uint8) * 200).save(root / f"{name}.png")
    return every(*names, of="xray")


def radiographs_in_dicom(root: Path) -> set[tuple[str, str]]:
    about: dict[str, Any] = {"Modality": "DX", "SeriesInstanceUID": "1.5", "PatientID": "P7x"}
    for k, view in enumerate(("PA", "LL")):
        write_slice(root / "chest" / f"{k}.dcm", ct(0)[:, :, 0], 0, ViewPosition=view, **about)
    return every("P7x", of="xray xray_lateral")


def hcp1200(root: Path) -> set[tuple[str, str]]:
    """Much less than a person has, but every version of an image."""
    names = ("100206", "100307")
    for name in names:
        for kind in ("T1w", "T2w"):
            for end in ("", "_restore", "_restore_brain"):
                volume(root / name / "T1w" / f"{kind}_acpc_dc{end}.nii.gz", mm=0.7)
            volume(root / name / "MNINonLinear" / f"{kind}_restore_brain.nii.gz", mm=0.7)
            volume(root / name / "unprocessed" / "3T" / f"{kind}_X" / f"{name}_3T_{kind}_X.nii.gz")
        for other in ("brainmask_fs", "wmparc", "ribbon", "BiasField_acpc_dc", "T1wDividedByT2w"):
            volume(root / name / "T1w" / f"{other}.nii.gz", mm=0.7)
        volume(root / name / "T1w" / "T1w_acpc_dc_restore_1.25.nii.gz", mm=1.25)
        volume(root / name / "T1w" / name / "mri" / "orig" / "T1.nii.gz")
    return every(*names, of="t1 t2 mask")


BABIES = ("sub-CC00050XX01_ses-7201", "sub-CC00051XX02_ses-7702", "sub-CC00051XX02_ses-8800")
"""Two people, of whom one came twice."""


def babies(root: Path, mask: str, *ends: str) -> set[tuple[str, str]]:
    """Sessions of dHCP with these ends of names, and tissues beside them."""
    for name in BABIES:
        anat = root / name.replace("_", "/") / "anat"
        for end in (mask, *ends):
            volume(anat / f"{name}_{end}.nii.gz", mm=0.5)
    return every(*BABIES, of="t1 t2 mask")


def dhcp(root: Path) -> set[tuple[str, str]]:
    """The third release."""
    anat = root / "rel3_dhcp_anat_pipeline"
    images = ("T1w", "T2w", "desc-restore_T1w", "desc-restore_T2w")
    others = ("desc-bet_mask", "desc-drawem9_dseg", "desc-ribbon_dseg", "myelinmap")
    for name in BABIES:
        folder = anat / name.replace("_", "/") / "xfm"
        volume(folder / f"{name}_from-T2w_to-template40wk_mode-image.nii.gz")
    return babies(anat, "desc-brain_mask", *images, *others)


def dhcp_2019(root: Path) -> set[tuple[str, str]]:
    """The second release, with the T1 as it was reconstructed."""
    for name in BABIES:
        volume(root / "sourcedata" / name.replace("_", "/") / "anat" / f"{name}_T1w.nii.gz")
    images = ("space-T2w_T1w", "desc-restore_space-T2w_T1w", "desc-restore_T2w")
    others = ("desc-bet_space-T2w_brainmask", "desc-drawem9_space-T2w_dseg", "space-T2w_myelinmap")
    anat = root / "derivatives" / "dhcp_anat_pipeline"
    return babies(anat, "desc-drawem_space-T2w_brainmask", *images, *others)


def dhcp_2017(root: Path) -> set[tuple[str, str]]:
    """The first release, with the T1 as it was reconstructed."""
    for name in BABIES:
        volume(root / "sourcedata" / name.replace("_", "/") / "anat" / f"{name}_T1w.nii.gz")
    ends = ("restore", "restore_brain", "biasfield")
    images = [f"{kind}_{end}" for kind in ("T1w", "T2w") for end in ends]
    others = ("brainmask_bet", "drawem_all_labels", "drawem_tissue_labels")
    return babies(root / "derivatives", "brainmask_drawem", *images, *others)


def synthrad2023(root: Path) -> set[tuple[str, str]]:
    found = set()
    for task, source in ((1, "mr"), (2, "cbct")):
        for region in ("brain", "pelvis"):
            folder = root / f"Task{task}" / region
            names = [f"{task}{region[0].upper()}{centre}001" for centre in "AC"]
            for name in names:
                for kind in (source, "ct", "mask"):
                    volume(folder / name / f"{kind}.nii.gz", mm=1.0 if region == "brain" else 2.5)
                (folder / "overview").mkdir(exist_ok=True)
                picture = Image.fromarray(np.eye(8, dtype=np.uint8) * 200)
                picture.save(folder / "overview" / f"{name}_train.png")
            found |= every(*names, of=f"{source} ct mask")
    return found


LAYOUTS = [
    *(bids, brats2015, brats2021, brats2023, lpba40, ixi, open_ms, open_ms_clone, kernels, doses),
    *(a_folder_a_subject, a_folder_a_modality, radiographs, radiographs_in_dicom),
    *(hcp1200, dhcp, dhcp_2019, dhcp_2017, synthrad2023),
]


def covered(folder: Path, proposal: Proposal) -> bool:
    """Whether each file, or a folder it is in, is in the manifest or in the notes."""
    text = notes(proposal, "x", [])
    known = {row.path for row in proposal.manifest.rows}
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return all(
        any(p.as_posix() in known or f"- `{p.as_posix()}`" in text for p in (file, *file.parents))
        for file in files
    )
