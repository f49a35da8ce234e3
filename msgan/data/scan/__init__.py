"""A folder of images, understood as far as names and headers tell; nothing in it is changed."""

from msgan.data.scan.proposal import Proposal, propose

__all__ = ["Proposal", "propose"]
