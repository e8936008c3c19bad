"""ONE MODEL: a trial config and uint8 images go in, epochs and a trained model come out.

Models, augmentation, batches, losses, optimisers, metrics and the loop live here, on torch and
timm. Nothing here knows Ray, files of a sweep, or other trials; several workers meet only in the
`Collective` that is passed in.
"""
