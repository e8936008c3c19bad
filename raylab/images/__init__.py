"""What to learn: where the images come from (`source`), how a file becomes pixels (`decode`), the
prepared variants that all trials share (`prepare`), who trains and who validates (`split`), and the
built-in drawn faces (`toy`). Nothing here knows a model, and only `prepare` knows Ray.
"""
