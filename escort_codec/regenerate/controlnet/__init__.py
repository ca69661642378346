"""Stable Diffusion with a Canny ControlNet, through diffusers: the paper's regenerator.

    presets.py      the paper's numbers: sizes, prompts, steps, scales; numpy and OpenCV only
    settings.py     what one exemplar is regenerated with: options over recipe over preset
    models.py       which model is meant: Hub id, folder, single file; what pins it
    device.py       where, and in which precision
    loading.py      the weights into diffusers' pipelines: Stable Diffusion 1, 2 and XL by the model's class
    schedulers.py   the samplers by name
    prompts.py      text embeddings, computed once
    sampling.py     one batch through diffusers' pipeline
    batching.py     batches by generation size, the largest that fits, halving where memory runs out
    pictures.py     one image to make, prepared in threads
    session.py      the model in use
    regenerator.py  the regenerator

Nothing here imports torch before the first image is made.
"""
