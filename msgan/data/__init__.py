"""From files to subjects: volumes, intensities, geometry, manifests and cohorts."""
