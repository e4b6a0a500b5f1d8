"""What everyone may use; neither torch nor MPI."""
