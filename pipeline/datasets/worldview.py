"""The bands of WorldView-2 and WorldView-3, whose images several data sets hold."""

from pipeline.scene import Band

RGB = (
    Band(name="red", wavelength_nm=(630, 690)),
    Band(name="green", wavelength_nm=(510, 580)),
    Band(name="blue", wavelength_nm=(450, 510)),
)
"""Red, green and blue, sharpened to the resolution of the panchromatic band."""

PAN = (Band(name="pan", wavelength_nm=(450, 800)),)
"""The panchromatic band."""

MULTISPECTRAL = (
    Band(name="m_coastal", wavelength_nm=(400, 450)),
    Band(name="m_blue", wavelength_nm=(450, 510)),
    Band(name="m_green", wavelength_nm=(510, 580)),
    Band(name="m_yellow", wavelength_nm=(585, 625)),
    Band(name="m_red", wavelength_nm=(630, 690)),
    Band(name="m_red_edge", wavelength_nm=(705, 745)),
    Band(name="m_nir1", wavelength_nm=(770, 895)),
    Band(name="m_nir2", wavelength_nm=(860, 1040)),
)
"""Eight bands at a quarter of that resolution."""

SHORT_WAVE_INFRARED = (
    Band(name="a_swir1", wavelength_nm=(1195, 1225)),
    Band(name="a_swir2", wavelength_nm=(1550, 1590)),
    Band(name="a_swir3", wavelength_nm=(1640, 1680)),
    Band(name="a_swir4", wavelength_nm=(1710, 1750)),
    Band(name="a_swir5", wavelength_nm=(2145, 2185)),
    Band(name="a_swir6", wavelength_nm=(2185, 2225)),
    Band(name="a_swir7", wavelength_nm=(2235, 2285)),
    Band(name="a_swir8", wavelength_nm=(2295, 2365)),
)
"""Eight bands of WorldView-3, much coarser."""
