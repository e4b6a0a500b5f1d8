"""Any source becomes one packed file. No torch and no communication here.

Nothing is imported here, so that the command line can name its options without HDF5:
`from hpcfilter.pack.pack import pack`.
"""
