# expect: OK
# text: ['a', 'b'] 0.02\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import asyncio, time
async def wait(s, v):
    await asyncio.sleep(s)
    return v
async def both(): return await asyncio.gather(wait(0.02, 'a'), wait(0.01, 'b'))
t = time.time()
print(asyncio.run(both()), 0.02)
