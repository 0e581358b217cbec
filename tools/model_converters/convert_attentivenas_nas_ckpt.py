import pathlib
import sys
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
from mmrazor_lite.cli.gone import answer
sys.exit(answer("model_converters/convert_attentivenas_nas_ckpt.py"))
