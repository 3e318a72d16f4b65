"""How good recommendations are: metrics, whole-catalogue ranking, comparison of files."""
