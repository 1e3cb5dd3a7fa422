# why: nothing of the trainer's, and only what libraries are told
# expect: OK
# text: [] [] True True
known = ('HOME', 'LANG', 'LD_', 'MKL_', 'MPL', 'OMP_', 'OPENBLAS_', 'OPENCV_', 'PATH', 'PYTHON', 'TMPDIR')
print([k for k in os.environ if not k.startswith(known)],
      [k for k, v in os.environ.items() if 'SECRET' in v or TRAINER_DIR in v or str(TRAINER_PID) in v],
      TIER == 2 or os.getppid() < 2, TIER == 2 or os.uname().nodename == 'box')
