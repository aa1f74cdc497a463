"""Fuse: linear algebra on the captured graph. See `fusion` for the rules, `affine` for the algebra."""

from edgekit.artifact import RegionCertificate as RegionCertificate
from edgekit.passes.fuse.fusion import Fuse as Fuse
from edgekit.passes.fuse.fusion import FuseOptions as FuseOptions
from edgekit.passes.fuse.fusion import fuse as fuse
