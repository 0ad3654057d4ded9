"""The guides say what the program does: tables of keys, reasons and names are those of the code, examples are read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from guide_trees import TREES
from PIL import Image
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import discovery, vocabulary
from pipeline.check import check
from pipeline.cli import parser
from pipeline.defects import REMARKS
from pipeline.errors import UserError
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.settings import Settings
from sources import preset
from sources.cases import ID_KEY, plan
from sources.descriptor import AnnotationSpec, Descriptor, layout, parse
