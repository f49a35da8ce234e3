"use strict";
(() => {
  // Axes (right, front, top) of the volume that run right, up and through each plane.
  const AXES = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] };

  const load = (address) => new Promise((done, failed) => {
    const picture = new Image();
    picture.onload = () => done(picture);
    picture.onerror = failed;
    picture.src = address;
  });

  // The greys of a sprite, a byte a voxel, the first axis fastest.
  const voxels = (picture, shape, across) => {
    const canvas = document.createElement("canvas");
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    const ink = canvas.getContext("2d", { willReadFrequently: true });
    ink.drawImage(picture, 0, 0);
    const pixels = ink.getImageData(0, 0, canvas.width, canvas.height).data;
    const [x, y, z] = shape;
    const out = new Uint8Array(x * y * z);
    for (let k = 0, at = 0; k < z; k++) {
      const left = (k % across) * x, top = Math.floor(k / across) * y;
      for (let j = 0; j < y; j++) {
        for (let i = 0; i < x; i++, at++) {
          out[at] = pixels[4 * ((top + j) * canvas.width + left + i)];
        }
      }
    }
    return out;
  };

  const start = async (root) => {
    const told = JSON.parse(root.dataset.images);
    const flat = told.shape.length === 2;
    const shape = flat ? [told.shape[1], told.shape[0], 1] : told.shape;
    const steps = [1, shape[0], shape[0] * shape[1]];
    const greys = (await Promise.all(told.images.map((image) => load(image.sprite))))
      .map((picture) => voxels(picture, shape, told.across));
    const at = shape.map((n) => Math.floor(n / 2));
    const value = root.querySelector(".value");
    let shown = 0;

    const planes = [...root.querySelectorAll(".plane")].map((part) => {
      const axes = AXES[part.dataset.plane] || [0, 1, 2];
      const canvas = part.querySelector("canvas");
      canvas.width = shape[axes[0]];
      canvas.height = shape[axes[1]];
      canvas.style.aspectRatio = `${canvas.dataset.width} / ${canvas.dataset.height}`;
      part.style.flexGrow = canvas.dataset.width;
      return { part, axes, canvas, slider: part.querySelector("input"), up: !flat };
    });

    // Red where the first image of a difference is brighter, blue where it is darker.
    const colour = (voxel) => {
      if (shown < greys.length) {
        const grey = greys[shown][voxel];
        return [grey, grey, grey];
      }
      const [made, real] = told.difference;
      const share = Math.max(-1, Math.min(1, (greys[made][voxel] - greys[real][voxel]) / 128));
      const rest = 255 * (1 - Math.abs(share));
      return share > 0 ? [255, rest, rest] : [rest, rest, 255];
    };

    const draw = ({ part, axes, canvas, slider, up }) => {
      const [right, over, through] = axes;
      const ink = canvas.getContext("2d");
      const picture = ink.createImageData(canvas.width, canvas.height);
      for (let row = 0, pixel = 0; row < canvas.height; row++) {
        const high = up ? canvas.height - 1 - row : row;
        for (let column = 0; column < canvas.width; column++, pixel += 4) {
          const voxel = at[through] * steps[through] + high * steps[over] + column * steps[right];
          picture.data.set(colour(voxel), pixel);
          picture.data[pixel + 3] = 255;
        }
      }
      ink.putImageData(picture, 0, 0);
      if (!slider) return;
      slider.value = at[through];
      part.querySelector("output").textContent = `${at[through] + 1} of ${shape[through]}`;
      const place = (axis) => `${100 * (at[axis] + 0.5) / shape[axis]}%`;
      part.querySelector(".down").style.left = place(right);
      part.querySelector(".across").style.bottom = place(over);
    };

    const number = (image, grey) => {
      const [low, high] = image.window;
      return Number((low + (high - low) * grey / 255).toPrecision(3));
    };

    const say = () => {
      const voxel = at[0] * steps[0] + at[1] * steps[1] + at[2] * steps[2];
      const texts = told.images.map((image, k) => `${image.title} ${number(image, greys[k][voxel])}`);
      value.textContent = `At the cross, about: ${texts.join(", ")} ${told.unit}`;
      value.hidden = flat;
    };

    const update = () => { planes.forEach(draw); say(); };

    planes.forEach(({ axes, canvas, slider, up }) => {
      const [right, over, through] = axes;
      if (!slider) return;
      slider.addEventListener("input", () => { at[through] = Number(slider.value); update(); });
      const go = (event) => {
        const box = canvas.getBoundingClientRect();
        const inside = (share, n) => Math.max(0, Math.min(n - 1, Math.floor(share * n)));
        const down = (event.clientY - box.top) / box.height;
        at[right] = inside((event.clientX - box.left) / box.width, shape[right]);
        at[over] = inside(up ? 1 - down : down, shape[over]);
        update();
      };
      canvas.addEventListener("pointerdown", go);
      canvas.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
    });
    root.querySelectorAll("input[type=radio]").forEach((choice) => {
      choice.addEventListener("change", () => { shown = Number(choice.value); update(); });
    });
    update();
    root.dataset.ready = "yes";
  };

  // Only what is looked at is unpacked: a page may have several.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      start(target).catch(() => { target.dataset.ready = "no"; });
    }
  });
  document.querySelectorAll(".viewer").forEach((root) => seen.observe(root));

  // A link of the contents opens the part that it leads to.
  const open = () => {
    const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = part && part.querySelector("details");
    if (fold) fold.open = true;
  };
  window.addEventListener("hashchange", open);
  open();
})();
