"""Detectors on mmdet: missing operators, configs, transforms, inference. Needs torch."""
