"""Whether the platform does its work, stage by stage, in figures and in words."""
