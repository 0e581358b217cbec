import pathlib
import sys
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])  # works uninstalled, from any folder
from mmrazor_lite.cli import main
sys.exit(main(["extract", *sys.argv[1:]]))
