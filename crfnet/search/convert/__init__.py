"""Score files of other programs into a score folder. A new format is a reader here and a line in `FORMATS`.

| format | a file holds | axes unless said otherwise | kind |
| --- | --- | --- | --- |
| mat | one array, variable ``data`` | (w, h, l) or (w, h, l, 1) | logits |
| npz | one array, or the one named by ``key`` | (l, h, w) | logits |
| npy | one array | (l, h, w) | logits |
| png | one class of an image, grey, 8 or 16 bit, ``<id>_<class>.png`` | one file a class | probabilities |

``mat`` is what the Caffe release of DeepLab writes: ``<id>_blob_0.mat``, scores upsampled to the padded input
(513 x 513), the image in the upper left corner, rows and columns swapped as MATLAB reads Caffe's memory. They
have to be cropped to the image, whose size comes from the folder of images.
"""

from crfnet.search.convert.convert import ConvertOptions, convert_scores
from crfnet.search.convert.formats import FORMATS

__all__ = ["FORMATS", "ConvertOptions", "convert_scores"]
