# The network of the demo, without widths of its own: a config says which uniform ones.
_base_ = "./autoslim_digits.py"

model = dict(mutator=dict(_delete_=True, type="OneShotChannelMutator", divisor=4))
