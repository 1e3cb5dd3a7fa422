# why: nothing of the trainer's
# expect: OK
# text: True True 100 True
print('TRAINER_TOKEN' not in os.environ, set(os.environ) <= {
    'HOME', 'LANG', 'LD_ORIGIN_PATH', 'MKL_NUM_THREADS', 'MPLBACKEND', 'MPLCONFIGDIR', 'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS', 'OPENCV_FOR_THREADS_NUM', 'PATH', 'PYTHONHASHSEED', 'TMPDIR'}, min(os.getpid(), 100) if TIER == 2 else 100 if os.getpid() < 100 else os.getpid(),
    TIER == 2 or os.uname().nodename == 'box')
