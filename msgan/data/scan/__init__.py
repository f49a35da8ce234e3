"""Scans a folder of images by names and headers; it changes nothing in the folder."""

from msgan.data.scan.proposal import Proposal, propose

__all__ = ["Proposal", "propose"]
