"""Labelled images: where they come from, and how they become input tensors.

`--data` takes one of:

    digits, digits:N           scikit-learn's handwritten digits, 8x8, 10 classes; needs the extra [data]
    patterns, patterns:N       generated images, 64x64, 20 classes, as many as wanted (2,000 unless N says otherwise)
    FOLDER                     one folder of images per class, as ImageNet has it, or images alone, without labels
    FILE.npz                   `images`, uint8, NxHxW or NxHxWx3, and perhaps `labels` and `classes`
    module:callable            code of the user's that gives (image, label) pairs
    file.py:callable           the same, in a file

The embedded sets have a train and a test split without a common image; calibration takes train, evaluation test. The
others are the same in both splits, so give one folder to calibrate on and another to evaluate on.
"""
