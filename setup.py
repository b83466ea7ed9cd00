"""One distribution: the base install is the Pi agent alone; the extra `host` adds the training host."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "pi_agent" / "__init__.py").read_text())[1]

AGENT = [
    "click",
    "cryptography",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "requests",
    "onnxruntime>=1.28",
    "platformdirs",
]
HOST = [
    "torch",
    "onnx>=1.21",
    "onnxscript",
    "safetensors",
    "fastapi",
    "uvicorn",
    "prometheus-client",
    "jinja2",
    "matplotlib",
    "joblib",
]
DEV = ["pytest", "pytest-xdist", "hypothesis", "httpx", "scipy", "ruff", "mypy", "import-linter", "types-requests"]
PEERS = ["adversarial-robustness-toolbox==1.20.1", "packaging"]  # which it needs and does not name

setup(
    name="magpie",
    version=VERSION,
    description="Who really owns a model behind an API, and how easily can it be stolen?",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["pi_agent*", "training_host*"]),
    package_data={"training_host.report": ["*.html.j2"]},
    install_requires=AGENT,
    extras_require={"host": HOST, "dev": HOST + DEV, "peers": PEERS},
    entry_points={
        "console_scripts": ["pi-agent = pi_agent.cli:main", "train-host = training_host.cli:main"],
    },
)
