"""A training run as compiled programs: exported where TensorFlow is, trained where only JAX and a GPU are, taken back as a run folder.

python -m hcl_tf.portable.export --flagfile=experiments/qqp/hcl.flags --out=BUNDLE   # with TensorFlow
python -m hcl_tf.portable.train --bundle=BUNDLE --system=hcl --out=RESULTS           # with JAX, without TensorFlow
python -m hcl_tf.portable.take_back --bundle=BUNDLE --results=RESULTS --run_dir=runs/qqp/hcl-gpu

The machine in the middle needs this package's files and jax, numpy, scipy, ml_dtypes, safetensors, tqdm and absl-py; installing hcl_tf
would bring TensorFlow.
"""
