"""Runs the self test of the module StrokeLesionSeg inside Slicer, for CTest."""

import unittest

import slicer


class StrokeLesionSegSelfTest(unittest.TestCase):
    """The module is there, and passes its own test."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def test_module_is_loaded(self):
        assert hasattr(slicer.modules, "strokelesionseg")

    def test_self_test(self):
        from StrokeLesionSeg import StrokeLesionSegTest

        StrokeLesionSegTest().runTest()


if __name__ == "__main__":
    unittest.main()
