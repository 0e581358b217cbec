import pathlib
import sys
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # works uninstalled, from any folder
from mmrazor_lite.cli import main
sys.exit(main(["export", *sys.argv[1:]]))
