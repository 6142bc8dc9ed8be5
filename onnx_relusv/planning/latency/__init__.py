"""What models, blocks and kernels take to run, measured or by a model of them."""
