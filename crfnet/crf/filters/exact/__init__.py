"""The Gaussian kernel itself, no approximation beyond a stated cut-off: pairs of tiles that are near."""
