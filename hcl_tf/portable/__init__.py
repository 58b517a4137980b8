"""A training run as compiled programs: exported where TensorFlow is, trained where only JAX and a GPU are, taken back as a run folder.

python -m hcl_tf.portable.export --flagfile=experiments/qqp/hcl.flags --out=BUNDLE   # with TensorFlow
python -m hcl_tf.portable.train --bundle=BUNDLE --system=hcl --out=RESULTS           # with JAX and NumPy, without TensorFlow
python -m hcl_tf.portable.take_back --bundle=BUNDLE --results=RESULTS --run_dir=runs/qqp/hcl-gpu
"""
