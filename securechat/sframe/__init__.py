"""SFrame (RFC 9605): the encryption of single frames of sound and pictures, from one person's machine to the other's.

What carries a call, and whoever passes it on, sees numbers of keys and of frames, and how long each frame is. The keys
come from an MLS group (section 5.2). Of networks, codecs and conversations these modules know nothing.

    header      which key, and which frame
    keys        one sender's key: to encrypt with, or to decrypt with
    epochs      the keys of all members of a group, while its epochs go by
"""
