"""Stable Diffusion with a Canny ControlNet, through diffusers: the paper's regenerator.

    options.py      what a user may choose
    presets.py      the paper's numbers and image sizes; numpy and OpenCV only
    models.py       which model: Hub id, folder, single file; what pins it
    resolve.py      one exemplar's settings and model inputs: options over recipe over preset
    loading.py      the weights into diffusers' pipelines
    sampling.py     one batch: embeddings, noise, sampler, pixels
    session.py      the model in use, its device, and how many images fit into a batch
    regenerator.py  the regenerator

Nothing here imports torch before the first image is made.
"""
