"""A network in onnxruntime, the dense CRF behind it: label map of a photo from an exported network.

python experiments/onnx/run.py NETWORK.onnx PHOTO.jpg [--crf best.yaml] [--out labels.png]
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch.nn import functional as F

from crfnet import CRFConfig, DenseCRF, load_crf_config
from crfnet.labels import VOC_PALETTE, write_label_png
from crfnet.resize import resize_logits


class Network:
    """The file of ``crfnet export``: logits at image size for images of any size."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        about = json.loads(self.session.get_modelmeta().custom_metadata_map["crfnet"])
        self.align_corners, self.multiple, self.size = (
            about["align_corners"],
            about["multiple"],
            about["size"],
        )

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """(b, l, h, w) of an RGB image (b, 3, h, w) in 0..255; padded to what the file takes, and cropped."""
        rows, columns = image.shape[2:]
        wanted = self.size or (rows + -rows % self.multiple, columns + -columns % self.multiple)
        if rows > wanted[0] or columns > wanted[1]:
            raise SystemExit(f"the network takes images of at most {wanted[0]} x {wanted[1]} pixels")
        padded = F.pad(image.float(), (0, wanted[1] - columns, 0, wanted[0] - rows), mode="replicate")
        (strided,) = self.session.run(["logits"], {"image": padded.numpy()})
        resized = resize_logits(torch.from_numpy(strided), tuple(wanted), align_corners=self.align_corners)
        return resized[:, :, :rows, :columns]


def main(arguments: Sequence[str] | None = None) -> np.ndarray:
    """Write the label map of one photo and return it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path, help="of crfnet export")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--crf", type=Path, help="YAML of a search or of crfnet export; default: DeepLab's")
    parser.add_argument("--out", type=Path, default=Path("labels.png"))
    options = parser.parse_args(arguments)

    photo = np.array(Image.open(options.photo).convert("RGB"))
    image = torch.from_numpy(photo).permute(2, 0, 1).unsqueeze(0)
    logits = Network(options.network).logits(image)
    crf = DenseCRF(logits.shape[1], load_crf_config(options.crf) if options.crf else CRFConfig()).eval()
    with torch.inference_mode():
        labels = crf.map(logits, image)[0]
    write_label_png(options.out, labels, VOC_PALETTE)
    return labels.numpy()


if __name__ == "__main__":
    main()
