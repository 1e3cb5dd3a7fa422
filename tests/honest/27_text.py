# expect: OK
# text: naïve 日本 😀 | 00042 |   right| a-b-c\nto stderr\n
import sys, textwrap, string, unicodedata
print('naïve 日本 😀', '|', f'{42:05d}', '|', f'{"right":>7}|', '-'.join('abc'))
print('to stderr', file=sys.stderr)
# %%
# expect: OK
# has: UserWarning: careful
import logging, warnings
warnings.warn('careful')
logging.warning('logged')
# %%
# expect: OK
# text: ['b', 'a'] (1, [2, 3]) 5 small\n
words = sorted(['a', 'b'], reverse=True)
first, *rest = 1, 2, 3
if (n := 5) > 4: kind = 'small'
print(words, (first, rest), n, kind)
