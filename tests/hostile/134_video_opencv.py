# why: a decoder for files, cameras and addresses
# needs: cv2
# expect: OK
# has: opened: False False False
import cv2

print('opened:', *[cv2.VideoCapture(x, cv2.CAP_FFMPEG).isOpened() for x in ('/dev/video0', '/etc/passwd', f'http://127.0.0.1:{TCP_PORT}/x.mp4')])
