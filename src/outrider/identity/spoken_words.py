"""Octets as words, to be compared over the telephone: one of 256 short English words for each octet."""

_TEXT = """
acid actor adult after album alpine amber anchor animal apple apron arctic arrow artist atlas autumn
badge bagpipe banana banjo barrel basket beacon beetle bishop blanket blossom bonfire bottle bracket
breeze bronze cabin cactus camel candle canyon carbon carpet castle cedar cello chapel cherry
chimney circus clover cobalt coffee comet copper coral cotton cradle crater crown crystal cuckoo
cumin curtain dagger daisy dancer delta denim desert diesel dinner doctor dolphin domino donkey
dragon drummer eagle easel echo elbow ember emerald empire engine envoy equal escort ether exit
fabric falcon farmer feather fender fiddle filter finger flamingo flute fossil fountain fridge
frozen funnel gadget galaxy garlic gazelle geyser ginger giraffe glacier goblin granite gravel
guitar hammer harbor hazel helmet hermit hockey honey hornet hotel humid hunter iceberg igloo index
island ivory jacket jaguar jasmine jelly jigsaw jockey jungle kayak kennel kettle kidney kingdom
kitten koala ladder lagoon lantern lemon leopard lilac lizard lobster locket lumber magnet mango
marble meadow melon mercury mirror molecule monkey mosaic motor muffin museum napkin nectar needle
nickel noble nugget nutmeg oasis object ocean olive onion orbit orchid otter oven oxygen oyster
paddle palace panda parrot pebble pelican pencil pepper piano pigeon pilot planet plaza pocket polar
pony powder prism pulley pumpkin puzzle quartz quiver rabbit radar raven ribbon rocket saddle salad
salmon scarlet shadow signal silver spider sponge statue summit sunset tango teapot temple thunder
tiger timber tomato tractor trophy trumpet tulip tunnel turtle umbrella unicorn vacuum valley velvet
violin voyage waffle wagon walnut whisper winter wizard yellow yogurt zebra zenith zipper
"""
_WORDS = tuple(_TEXT.split())
assert len(set(_WORDS)) == 256, "one word for each octet"


def spoken(octets: bytes) -> str:
    """The octets as words, in order."""
    return " ".join(_WORDS[octet] for octet in octets)
