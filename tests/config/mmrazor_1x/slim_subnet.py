_base_ = "slim_joint.py"

model = dict(deploy_index=0)
