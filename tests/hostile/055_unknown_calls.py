# why: what is newer than the list does not exist, so that libraries fall back
# expect: OK
# text: ENOSYS ENOSYS ENOSYS ENOSYS
print(errno_of(call, 9999), errno_of(call, 'cachestat'), errno_of(call, 'map_shadow_stack'), errno_of(call, 'memfd_secret'))
