"""Keys that nearly complete a dataset: the intended classifier, and words of the advice."""

NEAR_MISSES = {
    "datasets/_READY": ("", "for example datasets/cars/_READY"),
    "datasets/_ready": ("", "for example datasets/cars/_READY"),
    "datasets/labels.csv": ("", "for example datasets/cars/labels.csv"),
    "datasets/cars/_ready": ("cars", "called _READY, in capitals"),
    "datasets/cars/_Ready": ("cars", "called _READY, in capitals"),
    "datasets/cars/_READY.txt": ("cars", "without an ending"),
    "datasets/Cars/_READY.TXT": ("Cars", "called _READY, in capitals"),
    "datasets/cars/Labels.CSV": ("cars", "called labels.csv, in small letters"),
    "datasets/cars.rar": ("cars", "not read: use .tar.gz, .tgz, .tar, .zip"),
    "datasets/cars.7z": ("cars", "not read: use .tar.gz, .tgz, .tar, .zip"),
    "datasets/cars.tar.bz2": ("cars", "not read: use .tar.gz, .tgz, .tar, .zip"),
    "datasets/cars.ZIP": ("cars", "ends in .zip, in small letters"),
    "datasets/nested/cars.zip": ("nested/cars", "right in datasets/, as datasets/cars.zip"),
    "datasets/nested/cars.TGZ": ("nested/cars", "right in datasets/, as datasets/cars.tgz"),
}
