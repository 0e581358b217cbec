# What the AutoSlim supernets of the study share.
_base_ = ["./task.py", "../../../configs/_base_/models/autoslim_fifths.py"]

model = dict(input_shape=(3, 16, 16), architecture=dict(head=dict(topk=(1,))))
