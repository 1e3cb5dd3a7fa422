# expect: OK
# text: took 0.03 2026-01-01 True\n
import datetime, time
t = time.time()
time.sleep(0.03)
took = time.time() - t
p = time.perf_counter()
sum(range(1000))
print(f'took {took:.2f}', datetime.date.today(), 0 < time.perf_counter() - p < 1)
# %%
# expect: OK
# text: 1 day, 2:00:00 2024-02-29\n
print(datetime.timedelta(hours=26), datetime.date(2024, 3, 1) - datetime.timedelta(days=1))
