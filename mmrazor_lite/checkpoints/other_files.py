"""Files that are taken for checkpoints and are something else: what they are, and what to do with them."""

from __future__ import annotations

from pathlib import Path

from mmrazor_lite.subnet import FORMAT as SUBNET

_STARTS = (
    (b"\x89HDF", "an HDF5 file, as Keras writes it; convert its arrays to tensors and torch.save them"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; fetch it with: git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"\x89PNG", "a picture, not a file of weights"),
    (b"%PDF", "a document, not a file of weights"),
    (f"format: {SUBNET}".encode(), "a subnet file: it says how wide layers are and holds no weights; give the .pth "
                                   "that was written with it"),
    (b"\x93NUMPY", "a NumPy array; convert it to a tensor and torch.save it in a dict"),
)  # fmt: skip
_ENDS = (  # of the names in a zip archive, whose list is at its end
    (b"/constants.pkl", "a TorchScript program; torch.save(torch.jit.load(FILE).state_dict(), OTHER) writes its "
                       "weights"),
    (b"/models/model.json", "an exported program (.pt2); torch.save(torch.export.load(FILE).state_dict, OTHER) writes "
                            "its weights"),
    (b".npy", "a file of NumPy arrays; convert them to tensors and torch.save them in a dict"),
)  # fmt: skip
# What MMRazor keeps of a search in search_epoch_N.pkl and latest.pkl.
_OF_A_SEARCH = (b"candidate_pool", b"top_k_candidates", b"result_subnet", b"searched_subnet")
_AGAIN = "where it is trusted, load it in Python and write it again with torch.save(content, OTHER)"
_READ = 1 << 16


def other_kind(path: Path, problem: str = "") -> str | None:
    """Tell what a file is that is no checkpoint; None where that cannot be seen.

    Args:
        path: The file; its first and last bytes are read.
        problem: What torch said about it.
    """
    with open(path, "rb") as file:
        start = file.read(512)
        file.seek(max(0, path.stat().st_size - _READ))
        end = file.read(_READ)
    for begin, text in _STARTS:
        if start.startswith(begin):
            return text
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not a file of weights: the download went wrong"
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it and give the file inside"
    if start.startswith(b"PK"):
        found = next((text for name, text in _ENDS if name in end), None)
        if found is None and "Unsupported operand" in problem:
            return f"written with another pickle_protocol than torch.save's own; {_AGAIN}"
        return found
    if start[:1] == b"\x80" and any(name in part for name in _OF_A_SEARCH for part in (start, end)):
        return "the state of a search of MMRazor, a pickle; start the search anew, or give the subnet file it wrote"
    if start[:1] == b"\x80" and (start[1:2] > b"\x02" or "magic" in problem.lower() or "Unsupported" in problem):
        return f"a pickle that torch.save did not write, or not with its own protocol; {_AGAIN}"
    return None
