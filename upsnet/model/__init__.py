"""The UPSNet network: backbone, FPN, instance, semantic and panoptic heads, losses."""
