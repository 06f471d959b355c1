from __future__ import annotations

import gc

from tests.support.steps import loop_of, tiny


def test_the_folder_of_a_trial_goes_with_its_loop():
    loop = loop_of(tiny())
    folder = loop.run.path
    assert folder.is_dir()
    del loop
    gc.collect()
    assert not folder.exists()
