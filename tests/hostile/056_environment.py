# why: nothing of the trainer's
# expect: OK
# text: True True True True
print('TRAINER_TOKEN' not in os.environ, set(os.environ) <= {
    'HOME', 'LANG', 'LD_ORIGIN_PATH', 'MKL_NUM_THREADS', 'MPLBACKEND', 'MPLCONFIGDIR', 'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS', 'OPENCV_FOR_THREADS_NUM', 'PATH', 'PYTHONHASHSEED', 'TMPDIR'}, TIER == 2 or os.getppid() < 2,
    TIER == 2 or os.uname().nodename == 'box')
