"""Text and images from files and folders, in three splits that share nothing."""

from ravine.lab.data.corpus import SHARES, Corpus, Skipped, Source, Split
from ravine.lab.data.images import Images, image_folder
from ravine.lab.data.reading import read, standard_library
from ravine.lab.data.tokenizer import Tokenizer, from_json

__all__ = [
    "SHARES",
    "Corpus",
    "Images",
    "Skipped",
    "Source",
    "Split",
    "Tokenizer",
    "from_json",
    "image_folder",
    "read",
    "standard_library",
]
