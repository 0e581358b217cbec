import pathlib
import sys
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
from mmrazor_lite.cli.gone import answer
sys.exit(answer("pruning/get_channel_units.py"))
