# expect: OK
# text: 1 True RGB (120, 80) (255, 0, 0)\n
print(len(input_images), input_images[0] is input_image is img, img.mode, img.size, input_images[0].getpixel((75, 55)))
# %%
# expect: OK
# text: (80, 120, 3) uint8 (0, 255) 900\n
a = np.asarray(input_image)
print(a.shape, a.dtype, (a.min(), a.max()), int((a.sum(axis=2) == 0).sum()))
