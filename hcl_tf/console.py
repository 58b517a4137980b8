"""The commands as programs of their own, which pip installs: `hcl-train` does what `python -m hcl_tf.train` does."""

import runpy
from functools import partial

# As `python -m` runs them, and not by a call of their `main`: --help lists the flags of the module that is run, worker processes start
# from it, and runs keep it as their command.
_run = partial(runpy.run_module, run_name="__main__", alter_sys=True)

prepare = partial(_run, "hcl_tf.prepare")
pretrain = partial(_run, "hcl_tf.pretrain")
train = partial(_run, "hcl_tf.train")
tune = partial(_run, "hcl_tf.tune")
evaluate = partial(_run, "hcl_tf.evaluate")
generate = partial(_run, "hcl_tf.generate")
reproduce = partial(_run, "hcl_tf.reproduce")
report = partial(_run, "hcl_tf.report")
demo = partial(_run, "hcl_tf.demo")
