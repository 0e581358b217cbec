"""What can be chosen, what was chosen, and the files that say so. Needs numpy and PyYAML, never torch."""

from mmrazor_lite.subnet.budget import RESOURCE_UNITS, parse_budget
from mmrazor_lite.subnet.choice import KINDS, Choice, LayerWidth, Stage
from mmrazor_lite.subnet.space import SearchSpace
from mmrazor_lite.subnet.subnet import Subnet
from mmrazor_lite.subnet.subnet_file import (
    FORMAT,
    NET,
    SubnetFile,
    parse_document,
    read_subnet,
    subnet_document,
    write_document,
    write_subnet,
)

__all__ = [
    "FORMAT",
    "KINDS",
    "NET",
    "RESOURCE_UNITS",
    "Choice",
    "LayerWidth",
    "SearchSpace",
    "Stage",
    "Subnet",
    "SubnetFile",
    "parse_budget",
    "parse_document",
    "read_subnet",
    "subnet_document",
    "write_document",
    "write_subnet",
]
