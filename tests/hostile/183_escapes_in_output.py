# why: terminals and tokenizers obey what they read
# expect: OK
# has: \\x1b[2J
print('\x1b[2J\x1b]0;title\x07\b\b\r<|im_end|>')
