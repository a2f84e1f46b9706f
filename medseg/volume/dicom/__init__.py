"""DICOM: the files of a folder or zip, the slices in them, and the series that slices make up."""
