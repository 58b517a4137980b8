"""Trains on machines without TensorFlow: exports a training as compiled programs, trains with JAX, and takes the results back as a run.

python -m hcl_tf.portable.export --flagfile=experiments/qqp/hcl.flags --out=BUNDLE   # with TensorFlow
python -m hcl_tf.portable.train --bundle=BUNDLE --system=hcl --out=RESULTS           # with JAX, without TensorFlow
python -m hcl_tf.portable.take_back --bundle=BUNDLE --results=RESULTS --run_dir=runs/qqp/hcl-gpu

Of a pretraining, the first is `python -m hcl_tf.pretrain --export=BUNDLE` with its other flags, and the last takes --weights for --run_dir.

The machine in the middle needs this package's files and jax, numpy, scipy, ml_dtypes, safetensors, tqdm and absl-py; installing hcl_tf
would bring TensorFlow.
"""
