"""Run time and memory of UPSNet beside MR-CNN-PSP (Table 5): cases → run → measure → report."""
