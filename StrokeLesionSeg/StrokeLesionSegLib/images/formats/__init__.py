"""Bytes to ``Scan`` and back: NIfTI, ITK's formats, DICOM; and how large a file may be."""
